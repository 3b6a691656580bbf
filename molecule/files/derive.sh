#!/bin/bash
# Usage: derive.sh NAME FILE <CONTENT
#
# Makes the release NAME from the one in service, without the minute that building takes: another
# environment (RELEASE_NAME=bad), and CONTENT appended to FILE, or in its place when FILE begins with "=".
# START_TIMEOUT is the seconds that it has to become healthy.
set -euo pipefail

current=$(basename "$(readlink /opt/fastapi/current)")
releases=/opt/fastapi/releases
rm -rf "${releases:?}/$1"
cp --archive "$releases/$current" "$releases/$1"
cd "$releases/$1"
# The virtualenv's scripts and the units contain the path.
grep --recursive --files-with-matches --binary-files=without-match "$current" . | xargs sed --in-place "s/$current/$1/g"
sed --in-place "s/--timeout [0-9]*/--timeout ${START_TIMEOUT:-60}/" systemd/*.service
echo RELEASE_NAME=bad >>etc/environment
case $2 in
  =*) cat >"${2#=}" ;;
  *) cat >>"$2" ;;
esac
