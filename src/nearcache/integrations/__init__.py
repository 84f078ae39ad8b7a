"""Where people already are: one small file for each framework, behind an extra of the same name.

Nothing here is imported by the rest, and each file imports the framework it is for.
"""
