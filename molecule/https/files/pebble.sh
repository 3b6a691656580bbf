#!/bin/bash
# An ACME server of this host's own, with names from /etc/hosts. Nothing leaves the host.
set -euo pipefail
mkdir -p /opt/pebble
cd /opt/pebble
echo '127.0.0.1 shop.test www.shop.test blog.test unknown.test more.test' >>/etc/hosts
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 \
  -keyout pebble.key -out pebble.pem 2>/dev/null
cat >config.json <<END
{"pebble": {"listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000",
 "certificate": "pebble.pem", "privateKey": "pebble.key", "httpPort": 80, "tlsPort": 443,
 "ocspResponderURL": "", "externalAccountBindingRequired": false}}
END
systemd-run --quiet --unit=pebble --working-directory="$PWD" --setenv=PEBBLE_VA_NOSLEEP=1 \
  --setenv=PEBBLE_WFE_NONCEREJECT=0 /usr/bin/pebble -config config.json
