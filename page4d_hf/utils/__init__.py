"""What every room uses and none owns: folders and files written whole, locks, JSON against a schema, progress, how
programs end, time and memory. Knows nothing of models, cameras or captures. Import from its modules: `page4d --help`
waits for this package.
"""
