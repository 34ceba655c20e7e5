"""Builds a component from a plugin's folder: `python -m chela_sdk.build FOLDER`."""
