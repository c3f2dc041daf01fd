"""Scans on the nodes of a Ray cluster, into one library. Imports the scan; ray only when a cluster is used."""
