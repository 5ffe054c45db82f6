"""Tasks: conversion of a graph's outputs to results, text and JSON, one file per task."""
