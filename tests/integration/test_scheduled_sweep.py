"""pg_cron sweeps where it is there. It cannot be installed here: what its `cron.schedule` would be told is looked at."""

from pathlib import Path

from backend.stack.stack import Stack
from tests.support.databases import SUPABASE, Database, new_database

# As pg_cron has it: https://github.com/citusdata/pg_cron
CRON = """
    create schema cron;
    create table cron.job (jobname text primary key, schedule text, command text);
    create function cron.schedule(job_name text, schedule text, command text) returns bigint language sql as $$
        insert into cron.job values (job_name, schedule, command)
        on conflict (jobname) do update set schedule = excluded.schedule, command = excluded.command
        returning 1::bigint
    $$;
"""


def push(database: Database) -> None:
    """Apply all migrations."""
    database.add(sorted((SUPABASE / "migrations").glob("*.sql")))
    answer = database.push()
    assert answer.exit_code == 0, answer.stderr


def test_with_pg_cron_a_sweep_is_scheduled(stack: Stack, tmp_path: Path) -> None:
    """Every minute, by a command that the role which schedules it may run."""
    with new_database(stack, tmp_path) as database:
        database.execute(CRON)
        push(database)
        ((name, schedule, command),) = database.rows("select * from cron.job")
        assert (name, schedule) == ("clearfloor-sweep", "* * * * *")
        assert command == "select public.sweep_decisions(500, 600)"
        assert database.rows(command) == [(0,)]
