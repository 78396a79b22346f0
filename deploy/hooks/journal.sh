#!/bin/sh
# Writes each alert of passoproxy into the journal: journal.sh [FILE]
# With FILE, an alert of level page is left there too: passoproxy-alert.path starts a unit when that changes.
# To read them: journalctl -t passoproxy-alert
set -eu
IFS= read -r alert
case $alert in
    *'"level": "page"'*) priority=crit ;;
    *'"level": "notify"'* | *'"event": "dead"'*) priority=warning ;;
    *) priority=info ;;
esac
printf '%s\n' "$alert" | systemd-cat -t passoproxy-alert -p "$priority"
if [ "$priority" = crit ] && [ $# -gt 0 ]; then
    printf '%s\n' "$alert" >"$1.new"
    mv -- "$1.new" "$1"
fi
