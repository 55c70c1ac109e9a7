"""HTTP in and out. No SQL, no provider names, no routing rules."""
