"""The box as a DICOMweb client: instances to servers by STOW-RS."""
