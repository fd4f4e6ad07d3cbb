# SPDX-License-Identifier: Apache-2.0
"""How fast the model is here: the readable path beside every faster one, in one process."""
