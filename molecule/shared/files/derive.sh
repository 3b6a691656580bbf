#!/bin/bash
# Usage: derive.sh NAME FILE <CONTENT
#
# Makes the release NAME (hexadecimal digits) from the one in service, without the minute that building takes: another
# environment (RELEASE_NAME=bad), and CONTENT appended to FILE, or in its place when FILE begins with "=".
# START_TIMEOUT is the seconds that it has to become healthy, RELEASE_TIMEOUT those that its release command may take,
# APPLICATION whose release it is (fastapi).
set -euo pipefail

directory=/opt/${APPLICATION:-fastapi}
current=$(basename "$(readlink "$directory/current")")
releases=$directory/releases
rm -rf "${releases:?}/$1"
cp --archive "$releases/$current" "$releases/$1"
secrets=$directory/credentials
rm -rf "${secrets:?}/$1"
if [ -d "$secrets/$current" ]; then cp --archive "$secrets/$current" "$secrets/$1"; fi
cd "$releases/$1"
# The virtualenv's scripts and the units contain the path.
grep --recursive --files-with-matches --binary-files=without-match "${current:0:12}" . |
  xargs sed --in-place "s/$current/$1/g; s/${current:0:12}/$1/g"
sed --in-place "s/--timeout [0-9]*/--timeout ${START_TIMEOUT:-60}/" systemd/*.service
find systemd -name '*-release.service' -exec \
  sed --in-place "s/TimeoutStartSec=.*/TimeoutStartSec=${RELEASE_TIMEOUT:-300}/" {} +
echo RELEASE_NAME=bad >>etc/environment
case $2 in
  =*) cat >"${2#=}" ;;
  *) cat >>"$2" ;;
esac
# As complete as any: a manifest of its files as they are now, and no seal of what they were.
rm -f .seal
/usr/bin/python3 -IS - "$1" <<'END'
import glob, json, os, sys

sys.path.insert(0, max(glob.glob("/usr/local/lib/gunicorn_fastapi/ctl-*"), key=os.path.getmtime))
from pathlib import Path

from appctl import contents

path = Path("manifest.json")
manifest = json.loads(path.read_text())
for name in manifest["files"]:
    if not Path(name).is_symlink():
        manifest["files"][name] = contents.digest_of(Path(name), sys.argv[1] if name.startswith(contents.RENDERED) else "")
path.write_text(json.dumps(manifest))
END
