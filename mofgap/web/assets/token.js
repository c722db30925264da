"use strict";
// The token is asked for in front of a kept screening, whose name is behind the # of the address.
document.querySelector("form").action += location.hash;
