"""What the migrations schedule where pg_cron is there. It cannot be installed here: a stand-in notes what it is told."""

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


def test_with_pg_cron_the_jobs_are_scheduled(stack: Stack, tmp_path: Path) -> None:
    """By commands that the role which schedules them may run."""
    with new_database(stack, tmp_path) as database:
        database.execute(CRON)
        push(database)
        jobs = database.rows("select * from cron.job order by jobname")
        assert jobs == [
            ("clearfloor-rates", "*/5 * * * *", "select public.publish_rates(240)"),
            ("clearfloor-retention", "* * * * *", "select public.delete_old_decisions(10000)"),
            ("clearfloor-sweep", "* * * * *", "select public.sweep_decisions(500, 600)"),
        ]
        assert [database.rows(command) for *_, command in jobs] == [[(1,)], [(0,)], [(0,)]]
