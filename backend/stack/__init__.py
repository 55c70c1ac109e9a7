"""The embedded Supabase for laptops and tests: Postgres, PostgREST, keys and a simulated provider."""
