# SPDX-License-Identifier: Apache-2.0
"""The demonstration: a subject leaves the view, the camera comes back, what is there then?"""
