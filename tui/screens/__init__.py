"""Screens and the dialogs above them. They draw and take keys; data are read in threads."""
