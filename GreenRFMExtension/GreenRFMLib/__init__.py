"""What the GreenRFM module consists of; importing it makes the `greenrfm` package importable."""

from GreenRFMLib.package import provide_greenrfm

provide_greenrfm()
