#!/usr/bin/env python3
"""Posts each alert of passoproxy into a Slack channel: slack.py FILE

FILE holds the URL of an incoming webhook, which is a secret. Mattermost and others that take {"text": ...} work too.
"""

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

SIGNS = {"page": ":rotating_light:", "notify": ":warning:", "recovered": ":white_check_mark:"}


def main() -> str | None:
    alert = json.loads(sys.stdin.read())
    lines = [
        f"{SIGNS.get(alert['level'], ':information_source:')} *passoproxy on {alert['instance']}: {alert['event'] or alert['level']}*"
    ]
    lines.append(alert["reason"])
    if alert["remedy"]:
        lines.append(f"What to do: {alert['remedy']}")
    if alert["deadline"]:
        lines.append(f"A person is needed by {alert['deadline']}.")
    if alert["link"]:
        lines.append(alert["link"])
    text = "\n".join(lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    url, body = Path(sys.argv[1]).read_text().strip(), json.dumps({"text": text}).encode()
    try:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=8).close()
    except urllib.error.HTTPError as error:
        return f"Slack answered {error.code}"
    except (OSError, ValueError) as error:  # its text may hold the URL
        return f"Slack cannot be reached ({type(error).__name__})"
    print("posted")
    return None


sys.exit(main())
