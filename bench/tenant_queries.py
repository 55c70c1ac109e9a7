"""What a tenant asks of its rows: lists, filters, an embed as PostgREST writes it, a count, and usage."""

from typing import LiteralString

PAGE_ROWS = 50

# `{mine}` is the filter on the organization where no policy adds it. Parameters: `page`, `agent`, and `organization` for that.
QUERIES: dict[str, LiteralString] = {
    "newest decisions": (
        "select id, outcome_status, charge_nano_usd from public.routing_outcomes where {mine} "
        "order by id desc limit %(page)s"
    ),
    "newest decisions, by time": (
        "select id, outcome_status, charge_nano_usd from public.routing_outcomes where {mine} "
        "order by opened_at desc, id desc limit %(page)s"
    ),
    "an agent's newest decisions": (
        "select id, outcome_status, charge_nano_usd from public.routing_outcomes where {mine} and agent_id = %(agent)s "
        "order by id desc limit %(page)s"
    ),
    "newest decisions of a day": (
        "select id, outcome_status, charge_nano_usd from public.routing_outcomes where {mine} "
        "and opened_at >= now() - interval '3 days' and opened_at < now() - interval '2 days' "
        "order by opened_at desc limit %(page)s"
    ),
    "newest decisions with their attempts": (
        'WITH pgrst_source AS ( SELECT "public"."routing_outcomes"."id", "public"."routing_outcomes"."outcome_status", '
        '"public"."routing_outcomes"."charge_nano_usd", '
        'COALESCE( "routing_outcomes_attempts_1"."routing_outcomes_attempts_1", \'[]\') AS "attempts" '
        'FROM "public"."routing_outcomes" LEFT JOIN LATERAL ( '
        'SELECT json_agg("routing_outcomes_attempts_1")::jsonb AS "routing_outcomes_attempts_1" FROM ('
        'SELECT "inferences_1"."model", "inferences_1"."status" FROM "public"."inferences" AS "inferences_1" '
        'WHERE "inferences_1"."organization_id" = "public"."routing_outcomes"."organization_id" '
        'AND "inferences_1"."routing_outcome_id" = "public"."routing_outcomes"."id" LIMIT 1000 OFFSET 0 '
        ') AS "routing_outcomes_attempts_1" ) AS "routing_outcomes_attempts_1" ON TRUE WHERE {mine} '
        'ORDER BY "public"."routing_outcomes"."id" DESC LIMIT %(page)s OFFSET 0 ) '
        "SELECT null::bigint AS total_result_set, pg_catalog.count(_postgrest_t) AS page_total, "
        "coalesce(json_agg(_postgrest_t), '[]') AS body FROM ( SELECT * FROM pgrst_source ) _postgrest_t"
    ),
    "count of all decisions": "select count(*) from public.routing_outcomes where {mine}",
    "usage of 30 days by day and model": (
        "select date_trunc('day', hour, 'UTC'), agent_id, model, sum(decisions), sum(charge_nano_usd), sum(saved_nano_usd) "
        "from public.usage_hours where {mine} and hour >= now() - interval '30 days' "
        "group by 1, 2, 3 order by 1, 2, 3"
    ),
}
