#!/bin/sh
# Creates the random credentials of the brokers and their clients in the given folder. Existing files are kept.
#
# usage: secrets.sh FOLDER
#
# docker compose runs it before anything else. For Kubernetes run it yourself, see docs/deploy.md. No password is ever on a command line.
set -eu
mkdir -p "$1"
cd "$1"

for name in redis-password nats-password nats-routes-password grafana-password; do
    [ -s "$name" ] && continue
    head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$name.new"
    mv "$name.new" "$name"
done
# The files that redis.conf and nats.conf include.
printf 'requirepass %s\n' "$(cat redis-password)" >redis.conf
printf 'authorization { user: ordersystem, password: "%s" }\n' "$(cat nats-password)" >nats.conf
# The credentials between the servers of a NATS cluster; nats.conf of deploy/kubernetes includes it.
routes=$(cat nats-routes-password)
{
    printf 'authorization { user: routes, password: "%s" }\nroutes: [\n' "$routes"
    for server in 0 1 2; do
        printf '  "nats://routes:%s@ordersystem-nats-%s.ordersystem-nats:6222"\n' "$routes" "$server"
    done
    printf ']\n'
} >nats-routes.conf
