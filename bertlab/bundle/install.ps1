# Installs the course from this folder on Windows, without a network:
#   powershell -ExecutionPolicy Bypass -File install.ps1 [FOLDER]
# goes into FOLDER instead of bertlab-course in your home folder.
# To name the Python, set this first:  $env:PYTHON = "C:\path\to\python.exe"
$install = Join-Path $PSScriptRoot 'install.py'

$candidates = @()
if ($env:PYTHON) { $candidates += , @($env:PYTHON) }
foreach ($version in '3.14', '3.13', '3.12', '3.11') { $candidates += , @('py', "-$version") }
$candidates += , @('python')
$candidates += , @('python3')

foreach ($candidate in $candidates) {
    $program = $candidate[0]
    $first = @($candidate | Select-Object -Skip 1)
    if (-not (Get-Command $program -ErrorAction SilentlyContinue)) { continue }
    & $program @first $install --fits *> $null
    if ($LASTEXITCODE -eq 0) {
        & $program @first $install @args
        exit $LASTEXITCODE
    }
}

Write-Host 'install: found no Python that this bundle has packages for. README.txt names them: install one, or say where it is:'
Write-Host '  $env:PYTHON = "C:\path\to\python.exe"; powershell -ExecutionPolicy Bypass -File install.ps1'
exit 1
