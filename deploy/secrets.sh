#!/bin/sh
# Make the secrets for compose.yaml in secrets/, where there are none yet. Keep copies: without secret_key nobody can
# decrypt the stored API keys.
set -eu
cd "$(dirname "$0")"
# Only the owner can enter the folder. Its files are readable, because each is shown to a container of another account.
mkdir -p secrets
chmod 0700 secrets
umask 022

random() {
    od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'
}

if [ ! -s secrets/secret_key ]; then
    random 32 >secrets/secret_key
fi
if [ ! -s secrets/database_password ]; then
    random 24 >secrets/database_password
fi
if [ ! -s secrets/database_url ]; then
    printf 'postgresql://baio:%s@database/baio' "$(cat secrets/database_password)" >secrets/database_url
fi
