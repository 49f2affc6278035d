"""One reader for each published layout: a module that ends in its row of the registry, `LAYOUT`.

A module's docstring says what lies where, in which axes and units, and what had to be corrected or assumed. Readers
share `captures.base`, `sequences` and the decoders of files; they know nothing of the registry.
"""
