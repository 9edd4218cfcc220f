"""The study's rooms.

options       what was asked for, checked before anything is loaded
trials        the networks that are trained, and on what
cache         results on disk, each known by its whole configuration
jobs          the measurements as jobs, as trials are
workers       jobs side by side, as soon as what they need is there
progress      how far, and how long still
measures      what is measured on the networks of one seed
verdicts      how numbers decide a claim
claims        the seven claims, and what must hold for each
depths        the same measures along networks of more convolutions
pictures      the figures
page          the interactive page
report        metrics.json and report.md
"""
