# Stands where nixpkgs has the minimal installer.
{ }
