"""The modules of the study.

options       the options, checked before anything is loaded
trials        the networks that are trained, and their data
cache         results on disk, each identified by its whole configuration
jobs          the measurements as jobs, as trials are
workers       jobs side by side, each as soon as its prerequisites are done
progress      the progress, and the remaining time
measures      the measurements of the networks of one seed
verdicts      the rules by which numbers decide a claim
claims        the seven claims, and the conditions of each
depths        the same measures along networks of more convolutions
pictures      the figures
page          the interactive page
report        metrics.json and report.md
"""
