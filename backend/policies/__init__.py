"""`clearfloor policies`: row level security policies that call a function once for each row, in any Supabase database."""
