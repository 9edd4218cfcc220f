"""The modules of the study.

options       the options, checked before anything is loaded
trials        the networks that are trained, and their data
cache         results on disk, each identified by its whole configuration
jobs          the measurements as jobs, as trials are
workers       jobs side by side, each as soon as its prerequisites are done
progress      the progress, and the remaining time
measures      the measurements of the networks of one seed
dead          of these, which channels are dead, and why
similarity    of these, how similar the layers of two networks are
answers       of these, which channels the answers rest on
verdicts      the rules by which numbers decide a claim
claims        the seven claims, and the conditions of each
depths        the same measures along networks of more convolutions
pictured      the rules for which network and which image the figures show
pictures      the figures
learning      the figure of loss and accuracy over epochs
synthesized   the figure of synthesized images
page          the interactive page
report        metrics.json and report.md
publication   the report and its figures without any image of the data
"""
