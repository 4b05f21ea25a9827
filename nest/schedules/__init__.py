"""Schedules written by hand."""
