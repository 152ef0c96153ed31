#!/bin/sh
# One database and one role per room, a role that may only look at the server's figures, and one that proves backups in
# databases of its own; runs once, on an empty server.
# Passwords come from the folder of secrets, never from this file.
set -eu
while read -r name password; do
  psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
    -v name="$name" -v password="$password" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name" TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8';
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
done < /run/saras/databases
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
  -v password="$(cat /run/saras/monitor)" -v verify="$(cat /run/saras/verify)" <<'SQL'
CREATE ROLE saras_monitor LOGIN PASSWORD :'password' IN ROLE pg_monitor;
CREATE ROLE saras_verify LOGIN CREATEDB PASSWORD :'verify';
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
SQL
