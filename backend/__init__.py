"""Clearfloor: an LLM inference gateway for teams that live on Supabase."""
