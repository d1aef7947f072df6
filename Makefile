# SPDX-License-Identifier: Apache-2.0
# The image of the Open Storage daemon, under the names that its users know.

.PHONY: docker-build-osd launch

docker-build-osd:
	tools/osd-image.sh build

launch:
	tools/osd-image.sh launch
