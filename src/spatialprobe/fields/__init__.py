"""Receptive fields: which input pixels can a unit see?"""
