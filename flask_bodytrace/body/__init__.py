"""The request body: read from the server once, at the first need, and readable again.

`cached` is the body, `stream` one reader's position in it. Below them: `state` is what a body is,
`filling` how it is read, `input` what servers hand over, `store` and `pool` where the bytes are.

Belongs here: bytes, their limits and their release. Does not belong here: Flask, requests,
OpenTelemetry. Of Werkzeug it knows the exceptions and the multipart decoder.

May be imported by every other folder.
"""
