"""What Prometheus scrapes: figures of this process and of its siblings under the same gunicorn.

`bootstrap` and the services record by OpenTelemetry's API alone; `exposition` sets up, where a
process begins, who takes that and answers `/metrics`.
"""
