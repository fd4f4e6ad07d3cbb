# SPDX-License-Identifier: Apache-2.0
"""HyDRA as a ROS 2 simulator: the node, its interfaces and the ``hydra-ros`` command."""

import pkgutil

# The generated interfaces (hydra_ros.srv, ...) lie in the installed package of the same name,
# which is another folder than this one when the modules are read from a source tree.
__path__ = pkgutil.extend_path(__path__, __name__)
