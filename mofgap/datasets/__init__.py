"""Where labelled structures come from: a registry, downloads, importers for the usual formats, checksums."""
