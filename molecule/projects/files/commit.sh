#!/bin/sh
# Usage: commit.sh REPOSITORY VERSION APPLICATION REQUIREMENTS
# Commit a version of the application, without what its build makes.
set -eu
mkdir -p "$1/backend"
cd "$1"
[ -d .git ] || git init --quiet --initial-branch=main
cp "$3/main.py" "$3/broken.py" backend/
cp "$4" backend/requirements.txt
printf '.env\nversion.py\n' >.gitignore
# shellcheck disable=SC2016 # python-dotenv takes the variable from the line before
printf 'LEATHER=satchel\nPASSWORD="worn ${LEATHER}"\n' >.env
echo "$2" >VERSION
git add .
git -c user.name=projects -c user.email=projects@localhost commit --quiet --message "Version $2"
touch ".git/version-$2"
