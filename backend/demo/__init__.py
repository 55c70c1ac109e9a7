"""`clearfloor demo`: five requests against what `clearfloor up` started, and the rows that each leaves behind."""
