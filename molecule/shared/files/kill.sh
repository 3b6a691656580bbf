#!/bin/bash
# Usage: kill.sh worker|master
# Kills one worker of the application, or its master, so that neither can do anything about it. Prints
# the number of connections that were open in what ends by it. They are counted in stopped processes,
# which take no further ones.
set -euo pipefail

children() { tr ' ' '\n' <"/proc/$1/task/$1/children" | grep . || true; }

master=$(systemctl show --property=MainPID --value fastapi)
mapfile -t workers < <(children "$master")
if [ "$1" = worker ]; then
  workers=("${workers[0]}")
  victim=${workers[0]}
else
  victim=$master
fi
kill -STOP "$victim" "${workers[@]}"
held=0
for worker in "${workers[@]}"; do
  held=$((held + $(ss --no-header --tcp --numeric --processes | grep --count "pid=$worker," || true)))
done
kill -KILL "$victim"
echo "$held"

# Over when all processes that serve are other ones, and answer.
until now=$(systemctl show --property=MainPID --value fastapi) && [ "$now" != 0 ] \
  && [ "$(children "$now" | wc -l)" -gt 1 ] && [ ! -e "/proc/$victim" ] \
  && python3 -c 'import urllib.request; urllib.request.urlopen("http://127.0.0.1/healthz", timeout=5)' 2>/dev/null
do
  sleep 0.1
done
