#!/usr/bin/env python3
"""Opens an incident in PagerDuty for alerts of passoproxy, and resolves it on recovery (Events API v2): pagerduty.py FILE [NAME]

FILE holds the integration key, which is a secret. NAME tells several accounts apart (default: passoproxy). $PAGERDUTY_URL is for another region,
such as https://events.eu.pagerduty.com/v2/enqueue. Levels notify and page open an incident, and the same one: a test opens one and resolves it.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

SEVERITIES = {"notify": "warning", "page": "critical", "test": "info"}


def main() -> str | None:
    alert = json.loads(sys.stdin.read())
    level, name = alert["level"], sys.argv[2] if len(sys.argv) > 2 else "passoproxy"
    actions = {"notify": ["trigger"], "page": ["trigger"], "recovered": ["resolve"], "test": ["trigger", "resolve"]}
    for action in actions.get(level, []):
        event = {
            "routing_key": Path(sys.argv[1]).read_text().strip(),
            "event_action": action,
            "dedup_key": f"{name} {alert['since']}",  # the same while the trouble lasts
        }
        if action == "trigger":
            event["payload"] = {
                "summary": f"{name}: {alert['reason']}; {alert['remedy']}"[:1024],
                "source": alert["instance"],
                "severity": SEVERITIES[level],
                "component": name,
                "custom_details": alert,
            }
            event["links"] = [{"href": alert["link"], "text": "status page"}] if alert["link"] else []
        if fault := send(event):
            return fault
    print("sent" if level in actions else "nothing to send")
    return None


def send(event: dict[str, object]) -> str | None:
    url = os.environ.get("PAGERDUTY_URL", "https://events.pagerduty.com/v2/enqueue")
    request = urllib.request.Request(url, json.dumps(event).encode(), {"Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=4).close()
    except urllib.error.HTTPError as error:
        return f"PagerDuty answered {error.code}"
    except OSError as error:
        return f"PagerDuty cannot be reached: {error}"
    return None


sys.exit(main())
