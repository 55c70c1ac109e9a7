"""Reads policies from a database's catalogue."""

import psycopg

from backend.policies.policy import Policy

# A catalogue is some hundred policies.
STATEMENT_TIMEOUT_MILLISECONDS = 60_000

# What Supabase makes and maintains. Not storage, realtime and pgmq: it leaves the policies on their tables to the project.
SUPABASE_SCHEMAS = (
    "_analytics",
    "_realtime",
    "auth",
    "cron",
    "extensions",
    "graphql",
    "graphql_public",
    "net",
    "pgbouncer",
    "pgsodium",
    "pgsodium_masks",
    "supabase_functions",
    "supabase_migrations",
    "vault",
)

# With nothing on the path every name is printed with its schema, but for those of pg_catalog.
_QUALIFY_NAMES = "set local search_path = ''"
# Postgres records which functions a policy depends on: exactly those, not others of the same name. Builtins are not recorded.
_POLICIES = """
    select
        namespace.nspname, relation.relname, policy.polname,
        pg_get_expr(policy.polqual, policy.polrelid), pg_get_expr(policy.polwithcheck, policy.polrelid),
        array(
            select array[function_namespace.nspname, function.proname]::text[]
            from pg_depend as dependency
            inner join pg_proc as function on function.oid = dependency.refobjid and function.provolatile <> 'i'
            inner join pg_namespace as function_namespace on function_namespace.oid = function.pronamespace
            where dependency.classid = 'pg_policy'::regclass and dependency.objid = policy.oid
                and dependency.refclassid = 'pg_proc'::regclass
        )
    from pg_policy as policy
    inner join pg_class as relation on relation.oid = policy.polrelid
    inner join pg_namespace as namespace on namespace.oid = relation.relnamespace
    where case
        when %(schema)s::text is null then namespace.nspname <> all(%(skipped)s)
        else namespace.nspname = %(schema)s
    end
    order by namespace.nspname, relation.relname, policy.polname
"""


def read_policies(connection: psycopg.Connection, schema: str | None = None) -> list[Policy]:
    """Return the policies of a schema, or of all but Supabase's own; the transaction goes on without a search path."""
    connection.execute(_QUALIFY_NAMES)
    rows = connection.execute(_POLICIES, {"schema": schema, "skipped": list(SUPABASE_SCHEMAS)})
    return [
        Policy(namespace, table, name, using, with_check, frozenset(map(tuple, functions)))
        for namespace, table, name, using, with_check, functions in rows
    ]
