#!/bin/sh
# The two services that the example has beside it.
set -eu
set -- "$1" "$2" /etc/postgresql/*/main
echo "listen_addresses = '*'" >"$3/conf.d/shop.conf"
echo "host shop shop 0.0.0.0/0 scram-sha-256" >>"$3/pg_hba.conf"
sed -i -E "s/^bind .*/bind 0.0.0.0/; s/^(# *)?requirepass .*/requirepass $2/" /etc/redis/redis.conf
systemctl restart postgresql redis-server
timeout 60 sh -c 'until runuser -u postgres -- psql --quiet --command "SELECT 1" >/dev/null 2>&1; do sleep 0.2; done'
runuser -u postgres -- psql --quiet --command "CREATE ROLE shop LOGIN PASSWORD '$1'" --command "CREATE DATABASE shop OWNER shop"
touch /etc/shop-services
