"""Clusters of database servers on this machine: their nodes are killed while runs go on."""
