# A flake's nixopsConfigurations.default as a network file, for a flake whose inputs nobody can fetch here.
{ flake, inputs }: ((import flake).outputs inputs).nixopsConfigurations.default
