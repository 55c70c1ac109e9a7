"""The record: the only code that talks to Supabase."""
