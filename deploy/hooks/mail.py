#!/usr/bin/env python3
"""Mails each alert of passoproxy: mail.py ADDRESS...

$SENDMAIL is the program that takes the mail (default: sendmail -t -i; also: msmtp -t), $MAIL_FROM the sender if it needs one. Alerts of one
trouble are one thread.
"""

import json
import os
import shlex
import subprocess
import sys
from email.message import EmailMessage


def main() -> int:
    alert = json.loads(sys.stdin.read())
    mail = EmailMessage()
    mail["To"] = ", ".join(sys.argv[1:])
    if sender := os.environ.get("MAIL_FROM"):
        mail["From"] = sender
    about = " ".join(f"{alert['event'] or alert['level']}: {alert['reason']}".split())
    mail["Subject"] = f"passoproxy on {alert['instance']}: {about}"
    if alert["level"] not in ("event", "test"):
        thread = "".join(each for each in alert["since"] if each.isalnum())
        mail["References"] = f"<passoproxy.{thread}@alerts.invalid>"
    rows = {name.replace("_", " "): value for name, value in alert.items() if value not in (None, "")}
    mail.set_content("".join(f"{name + ':':16}{value}\n" for name, value in rows.items()))
    program = shlex.split(os.environ.get("SENDMAIL", "sendmail -t -i"))
    try:
        return subprocess.run(program, input=mail.as_bytes(), check=False).returncode
    except OSError as error:
        sys.exit(f"{program[0]} cannot be started ({error.strerror}); install it, or set $SENDMAIL")


sys.exit(main())
