#!/bin/sh
# Put the passwords of the secret files into the two URLs, then become the service.
set -eu
for name in postgres_password valkey_password; do
    if [ -r "/run/secrets/$name" ]; then
        value=$(cat "/run/secrets/$name")
        SAS_DATABASE_URL=$(printf '%s' "$SAS_DATABASE_URL" | sed "s|{$name}|$value|")
        SAS_REDIS_URL=$(printf '%s' "$SAS_REDIS_URL" | sed "s|{$name}|$value|")
    fi
done
export SAS_DATABASE_URL SAS_REDIS_URL
cd /app
exec python -m sas_matcher.cli "$@"
