"""magickbox: a folder-based post-processing dispatcher for DICOM.

A peer opens an Association; its instances become a Job; a Processor turns INPUT into OUTPUT and reports an Outcome;
Rules turn Job and Outcome into Deliveries; each Delivery brings instances to a Destination.
"""

__version__ = "0.1.0"
