"""DICOM as bytes: headers read without parsing datasets, values as texts, command sets, the file that is written."""
