"""Secrets that show by their form: tokens, keys, credentials in URLs. Pure, linear in the text."""

from __future__ import annotations

import re

REDACTED = "REDACTED"
"""What is shown instead of a secret."""

FORMS = (
    "user and password in URLs",
    "private keys",
    "JSON web tokens",
    "keys of well-known services",
    "Bearer and Basic credentials",
)
"""What is hidden by its form, for people; numbers are besides."""

# A user and a password, which may hold an "@"; or a key alone, which is longer than a user's name.
IN_URL = re.compile(r"(?<=://)(?:[^/\s:@\"]{0,256}:[^/\s\"]{0,256}|[\w.~%-]{20,256})(?=@)")

TOKENS = re.compile(
    # By their first letter, since most text has none of it: what takes the longest is not to look.
    r"""(?<![A-Za-z0-9])(?=[ABEGIMNOPSTabdefghklnprstwxy0-9-])(?:
      -{4,5}\ ?BEGIN[ A-Z0-9]*PRIVATE\ KEY(?:\ BLOCK)?\ ?-{4,5}
        [\s\S]*?(?:-{4,5}\ ?END[ A-Z0-9]*PRIVATE\ KEY(?:\ BLOCK)?\ ?-{4,5}|\Z)  # PEM (RFC 7468)
    | [0-9](?:[0-9]{7,9}:AA[\w-]{33}|(?<=1)//0[\w-]{20,})               # Telegram, Google
    | A(?:(?:BIA|CCA|KIA|SIA)[A-Z0-9]{12,}                              # AWS
        |Iza[\w-]{30,}                                                  # Google
        |T(?:ATT|BB|CTT)[\w=-]{20,}                                     # Atlassian
        |GE-SECRET-KEY-1[A-Z0-9]{16,})
    | [Bb](?:(?i:earer)[ \t]+[\w.~+/=-]{6,}                             # RFC 6750
        |(?i:asic)[ \t]+(?=[A-Za-z]*[0-9+/=])[A-Za-z0-9+/]{6,}=*)       # RFC 7617
    | [Tt](?i:oken)[ \t]+(?=[\w.~+/=-]*[0-9])[\w.~+/=-]{16,}
    | eyJ[\w-]{5,}(?:\.[\w=-]*){0,4}                                    # JWT (RFC 7519)
    | GOCSPX-[\w-]{16,} | ya29\.[\w.-]{8,}                              # Google
    | g(?:(?:h[oprsu]|ithub_pat|sk|ls?[ac])_\w{16,}                     # GitHub, Groq, Grafana
        |l(?:pat|dt|rt|cbt|ptt|ft|soat|imt|agent)-[\w.-]{16,})          # GitLab
    | d(?:o[opr]_v1_\w{16,} | ckr_[op]at_[\w-]{16,}                     # DigitalOcean, Docker
        |api[0-9a-f]{32} | p\.(?:pt|st|ct)\.\w{16,}                     # Databricks, Doppler
        |iscord(?:app)?\.com/api/webhooks/[0-9]+/[\w-]{16,})
    | h(?:f_\w{16,} | v[bs]\.[\w-]{16,}                                 # Hugging Face, Vault
        |ooks\.slack\.com/(?:services|workflows|triggers)/[\w/-]{8,})
    | s(?:k-[\w-]{16,} | k_(?:live|test)_\w{8,}                         # OpenAI, Stripe
        |hp(?:at|ca|pa|ss)_\w{16,} | q0(?:atp|csp)-[\w-]{16,}           # Shopify, Square
        |ntry[su]_[\w+/=-]{16,} | bp_\w{16,}                            # Sentry, Supabase
        |ecret_[A-Za-z0-9]{40,})                                        # Notion
    | p(?:k_(?:live|test)_\w{8,} | ypi-[\w-]{16,} | scale_(?:tkn|pw|oauth)_[\w.-]{16,})
    | r(?:k_(?:live|test)_\w{8,} | 8_\w{16,} | ubygems_\w{16,})
    | n(?:pm_\w{16,} | tn_\w{16,}) | lin_(?:api|oauth)_\w{16,} | figd_[\w-]{16,}
    | whsec_[\w+/=]{8,} | key-[0-9a-f]{32}                              # Stripe, Mailgun
    | x(?:ox[a-z][.-][\w.-]{8,} | app-[\w-]{8,})                        # Slack
    | S(?:G\.[\w-]{8,}\.[\w-]{8,} | K[0-9a-f]{32})                      # SendGrid, Twilio
    | P(?:MAK-[\w-]{16,} | uTTY-User-Key-File-[\s\S]*)                  # Postman
    | NRAK-\w{16,} | IQoJb3JpZ2lu[\w+/=]{16,}                           # New Relic, AWS
    | atlasv1\.[\w-]{16,}                                               # Terraform, its second part
    | [MNO](?=[\w-]{23,27}\.)[\w-]+\.[\w-]{6}\.[\w-]{27,}               # Discord
    )""",
    re.VERBOSE,
)
