# SPDX-License-Identifier: Apache-2.0
"""Does the world remember? Leave a place, come back after a while, compare with the truth."""
