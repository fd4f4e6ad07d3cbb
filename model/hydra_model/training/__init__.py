# SPDX-License-Identifier: Apache-2.0
"""Training of the autoencoder and the transformer on the procedural world."""
