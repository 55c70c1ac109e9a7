"""The routes by which members manage their organization, with a Supabase access token.

Who may do what the database decides, in the transaction that does it. Reading needs no routes: members read the tables.
"""

from fastapi import APIRouter

from backend.api.management import agents, api_keys, limits, members, organization

router = APIRouter()
for _part in (organization, agents, api_keys, limits, members):
    router.include_router(_part.router)
