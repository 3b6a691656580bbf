#!/bin/sh
# Packs the host's own Python as those are packed that stand alone, with another number: the last digit of its version
# becomes 9, also in the program.
#   python.sh DIRECTORY
set -eu
version=$(python3 -IS -c 'import platform; print(platform.python_version())')
minor=${version%.*}
other=${version%?}9
top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT
mkdir -p "$top/python/bin" "$top/python/lib" "$1"
sed "s/$version/$other/g" "$(readlink -f "$(command -v python3)")" >"$top/python/bin/python$minor"
chmod 0755 "$top/python/bin/python$minor"
ln -s "python$minor" "$top/python/bin/python3"
cp -R "/usr/lib/python$minor" "$top/python/lib/"
find "$top" "(" -name __pycache__ -o -lname "/*" ")" -prune -exec rm -rf {} +
file="cpython-$other+20260101-$(uname -m)-unknown-linux-gnu-install_only.tar.gz"
tar --create --gzip --file="$1/$file" --directory="$top" python
cd "$1"
sha256sum "$file" >SHA256SUMS
